FROM scratch
RUN <<A <<B
A
