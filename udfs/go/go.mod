module luge

go 1.24
