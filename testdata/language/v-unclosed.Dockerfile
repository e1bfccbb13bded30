FROM scratch
WORKDIR /${A
