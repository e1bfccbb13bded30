FROM scratch
COYP a b
HEALTH x
/* c */
