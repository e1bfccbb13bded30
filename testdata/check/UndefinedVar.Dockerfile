# finds UndefinedVar at 4
FROM scratch
ARG FOOD=x
COPY a$FOO /a
COPY b$FOOD /b
