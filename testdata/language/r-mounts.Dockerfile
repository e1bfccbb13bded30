FROM scratch
ENV ID=npm
RUN --mount=type=cache,target=/c,id=$ID,sharing=locked --mount=type=secret,id=s,required x
