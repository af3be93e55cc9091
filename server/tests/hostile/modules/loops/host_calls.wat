;; call run: fuel_exhausted
(module
  (import "luge_v1" "now_ms" (func $now_ms (result i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $forever (drop (call $now_ms)) (br $forever))
    (i32.const 0)))
