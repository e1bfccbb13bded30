FROM scratch
ENV A=x
WORKDIR /${A:#x}
