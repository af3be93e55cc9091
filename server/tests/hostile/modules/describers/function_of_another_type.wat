;; push: invalid_module: should have () -> i32
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"procedure\": \"other\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 22))
    (i32.const 0))
  (func (export "run") (result i32) (i32.const 0))
  (func (export "other") (param i64)))
