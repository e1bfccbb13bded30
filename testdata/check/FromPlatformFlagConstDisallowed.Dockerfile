# finds FromPlatformFlagConstDisallowed at 2
FROM --platform=linux/arm64 debian:12
FROM --platform=linux/arm64 debian:12 AS for-arm64
