FROM scratch
RUN --mount=type=cach,target=/c x
