;; call run: fuel_exhausted
(module
  (import "luge_v1" "kv_get" (func $kv_get (param i32 i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "k")
  (func (export "run") (result i32)
    (loop $forever
      (drop (call $kv_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 8)))
      (br $forever))
    (i32.const 0)))
