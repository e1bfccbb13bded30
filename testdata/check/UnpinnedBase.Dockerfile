# finds UnpinnedBase at 2
FROM debian
FROM debian:12
FROM scratch
