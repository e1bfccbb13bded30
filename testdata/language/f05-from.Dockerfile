FROM scratch AS one
COPY a /a
FROM scratch
COPY --from=0 /a /b
COPY --from=ONE /a /c
COPY --from=example.invalid/img:1 /a /d
