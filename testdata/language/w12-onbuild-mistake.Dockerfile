FROM scratch AS base
ONBUILD COPY --chmod=755 first second third /a-directory-without-a-slash
FROM base
