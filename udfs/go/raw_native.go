//go:build !wasm

package luge

import "unsafe"

// Off WebAssembly there is nobody to ask, so that a test that reaches the server says which function did.
func absent(name string) string {
	return "luge: " + name + " needs a server, and this is no WebAssembly"
}

func rawInput(off uint32, buf unsafe.Pointer, capacity uint32) int64 { panic(absent("input")) }

func rawOutputWrite(text string) { panic(absent("output_write")) }

func rawGet(key string, off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("kv_get"))
}

func rawSet(key string, value string, ttlMs int64) { panic(absent("kv_set")) }

func rawDelete(key string) int32 { panic(absent("kv_delete")) }

func rawIncr(key string, delta int64, out unsafe.Pointer) int32 { panic(absent("kv_incr")) }

func rawTTL(key string) int64 { panic(absent("kv_ttl")) }

func rawVersion(key string) int64 { panic(absent("kv_version")) }

func rawScan(start string, end string, limit uint32, flags uint32) int32 { panic(absent("kv_scan")) }

func rawScanNext(handle int32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("kv_scan_next"))
}

func rawScanClose(handle int32) { panic(absent("kv_scan_close")) }

func rawNow() int64 { panic(absent("now_ms")) }

func rawLog(level uint32, text string) { panic(absent("log")) }

func rawConfig(name string, off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("config_get"))
}

func rawContext(field uint32, off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("context"))
}

func rawRequestCommand() int32 { panic(absent("request_command")) }

func rawRequestKey(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("request_key"))
}

func rawRequestValue(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("request_value"))
}

func rawRequestPrevious(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("request_previous"))
}

func rawRequestArg(field uint32, out unsafe.Pointer) int32 { panic(absent("request_arg")) }

func rawRequestSetValue(value string) { panic(absent("request_set_value")) }

func rawRequestSetTTL(ms int64) { panic(absent("request_set_ttl")) }

func rawResponseStatus() int32 { panic(absent("response_status")) }

func rawResponseValue(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
	panic(absent("response_value"))
}

func rawResponseSetValue(value string) { panic(absent("response_set_value")) }
