# finds SecretsUsedInArgOrEnv at 4
# finds SecretsUsedInArgOrEnv at 5
FROM scratch
ARG API_TOKEN
ENV DB_PASSWORD=x
ENV PUBLIC_KEY=y MONKEY=z
