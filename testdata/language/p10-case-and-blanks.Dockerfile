	 from scratch
  env A=b
	cmd ["x"]
