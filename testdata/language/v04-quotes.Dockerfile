FROM scratch
ENV A=a
LABEL one='$A' two="$A" three=\$A four="\$A" five='"$A"'
