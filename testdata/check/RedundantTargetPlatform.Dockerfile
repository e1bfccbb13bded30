# finds RedundantTargetPlatform at 2
FROM --platform=$TARGETPLATFORM debian:12
FROM --platform=$BUILDPLATFORM debian:12
