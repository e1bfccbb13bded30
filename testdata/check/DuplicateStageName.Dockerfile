# finds DuplicateStageName at 4
FROM scratch AS a
COPY x /x
FROM scratch AS a
COPY y /y
