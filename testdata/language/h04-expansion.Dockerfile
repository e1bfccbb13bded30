FROM scratch
ENV V=value
COPY <<E /a
$V \$V "$V" '$V' ${V%e}
E
COPY <<"E" /b
$V \$V
E
COPY <<-E /c
	$V
		two
	E
