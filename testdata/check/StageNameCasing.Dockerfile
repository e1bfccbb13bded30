# finds StageNameCasing at 2
FROM scratch AS Build
COPY a /a
