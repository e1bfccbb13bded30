FROM scratch AS base
ONBUILD RUN one
ONBUILD LABEL a=b
FROM base
RUN two
FROM base
