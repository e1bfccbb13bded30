FROM scratch
ARG FOOD=x
COPY a$FOO /b
