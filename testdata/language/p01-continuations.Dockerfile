FROM scratch
RUN a && \
# c
  # d

  b
