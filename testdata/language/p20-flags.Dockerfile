FROM scratch
COPY --chown=1 --chown=2 a b
COPY --form=x a b
COPY --from a b
COPY --link=maybe a b
RUN --network=hots x
RUN --security=none x
USER --x y
HEALTHCHECK --retries=-1 CMD x
