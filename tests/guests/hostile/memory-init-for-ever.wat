;; ends: Timeout
(data $d "0123456789abcdef")
(func $attack
  (loop $l (memory.init $d (i32.const 200000) (i32.const 0) (i32.const 16)) (br $l)))
