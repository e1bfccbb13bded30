ARG W=one
FROM scratch AS one
COPY a /a
FROM scratch
COPY --from=$W /a /b
