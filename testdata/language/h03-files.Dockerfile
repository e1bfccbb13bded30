FROM scratch
COPY <<A <<B /d/
a
A
b
B
