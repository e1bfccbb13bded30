# argument V=debian:12
# finds InvalidDefaultArgInFrom at 4
ARG V
FROM $V
