;; call run: memory_exceeded
(module
  (table 1 funcref)
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $more (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1))))
    unreachable
    (i32.const 0)))
