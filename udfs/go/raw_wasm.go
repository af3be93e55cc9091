//go:build wasm

package luge

import "unsafe"

// The imports, as udfs/ABI.md has them. A string passes as its address and its length.

//go:wasmimport luge_v1 input
func rawInput(off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 output_write
func rawOutputWrite(text string)

//go:wasmimport luge_v1 kv_get
func rawGet(key string, off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 kv_set
func rawSet(key string, value string, ttlMs int64)

//go:wasmimport luge_v1 kv_delete
func rawDelete(key string) int32

//go:wasmimport luge_v1 kv_incr
func rawIncr(key string, delta int64, out unsafe.Pointer) int32

//go:wasmimport luge_v1 kv_ttl
func rawTTL(key string) int64

//go:wasmimport luge_v1 kv_version
func rawVersion(key string) int64

//go:wasmimport luge_v1 kv_scan
func rawScan(start string, end string, limit uint32, flags uint32) int32

//go:wasmimport luge_v1 kv_scan_next
func rawScanNext(handle int32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 kv_scan_close
func rawScanClose(handle int32)

//go:wasmimport luge_v1 now_ms
func rawNow() int64

//go:wasmimport luge_v1 log
func rawLog(level uint32, text string)

//go:wasmimport luge_v1 config_get
func rawConfig(name string, off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 context
func rawContext(field uint32, off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 request_command
func rawRequestCommand() int32

//go:wasmimport luge_v1 request_key
func rawRequestKey(off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 request_value
func rawRequestValue(off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 request_previous
func rawRequestPrevious(off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 request_arg
func rawRequestArg(field uint32, out unsafe.Pointer) int32

//go:wasmimport luge_v1 request_set_value
func rawRequestSetValue(value string)

//go:wasmimport luge_v1 request_set_ttl
func rawRequestSetTTL(ms int64)

//go:wasmimport luge_v1 response_status
func rawResponseStatus() int32

//go:wasmimport luge_v1 response_value
func rawResponseValue(off uint32, buf unsafe.Pointer, capacity uint32) int64

//go:wasmimport luge_v1 response_set_value
func rawResponseSetValue(value string)
