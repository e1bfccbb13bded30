FROM scratch
ENV a=1
ENV a=2 b=$a
ENV old value with  blanks
