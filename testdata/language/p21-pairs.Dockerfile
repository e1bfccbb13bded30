FROM scratch
ENV A=1 B 2
ENV A
ENV =x
ARG =x
LABEL a
