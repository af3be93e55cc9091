;; set k: blocked
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"request\", \"commands\": [\"set\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 71))
    (i32.const 0))
  (func (export "run") (result i32)
    (local $key i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $key))
      (call $kv_set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const 0))
      (local.set $key (i32.add (local.get $key) (i32.const 1)))
      (br $more))
    (i32.const 0)))
