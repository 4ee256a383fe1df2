
 —îÊuser-1"medi