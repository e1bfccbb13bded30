FROM scratch
ARG HTTP_PROXY
ARG http_proxy=x
RUN x
