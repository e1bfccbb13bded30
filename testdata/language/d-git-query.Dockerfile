FROM scratch
ADD https://h.invalid/b.git?bogus=1 /x
