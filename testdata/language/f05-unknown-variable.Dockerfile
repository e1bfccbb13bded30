FROM scratch
ARG W
COPY --from=$W /a /b
