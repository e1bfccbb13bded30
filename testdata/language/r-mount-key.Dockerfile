FROM scratch
RUN --mount=type=cache,tarmget=/c x
