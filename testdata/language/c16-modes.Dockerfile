FROM scratch
COPY --chmod=999 a /a
