FROM scratch AS 1x
FROM scratch AS a/b
FROM scratch AS A-b_c.1
FROM scratch extra
