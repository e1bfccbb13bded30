FROM scratch
ENV S=set E=
ENV R1=${X:-d} R2=${X-d} R3=${E:-d} R4=${E-d} R5=${S:+s} R6=${X+s} R7=${E+s} R8=${S:?m}
