FROM scratch AS a
RUN --mount=from=b,target=/b x
FROM scratch AS b
COPY --from=a /x /x
