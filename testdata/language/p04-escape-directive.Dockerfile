# escape=`
FROM scratch
COPY a c:\
RUN a `
  b
