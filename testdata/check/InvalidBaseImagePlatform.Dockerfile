# base s390x
# finds InvalidBaseImagePlatform at 3
FROM debian:12
RUN true
