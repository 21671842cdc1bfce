module voluba-align/dev/promql

go 1.26.0
