;; ends: Timeout
(table $t 100 funcref)
(elem $e func $f $f $f $f)
(func $f)
(func $attack
  (loop $l (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 4)) (br $l)))
