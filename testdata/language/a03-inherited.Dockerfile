FROM scratch AS a
ARG T=x
FROM a
RUN one
ARG T=y
RUN two
