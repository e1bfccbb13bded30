# finds WorkdirRelativePath at 3
FROM scratch
WORKDIR a
WORKDIR b
