
 —îÊuser-1"media-1