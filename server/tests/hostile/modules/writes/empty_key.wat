;; call run: trap: at least 1 byte
(module
  (import "luge_v1" "kv_delete" (func $kv_delete (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (drop (call $kv_delete (i32.const 0) (i32.const 0)))
    (i32.const 0)))
