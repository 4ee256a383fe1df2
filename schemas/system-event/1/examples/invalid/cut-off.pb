
˜‰îÊedge-1 Beu-w