"""What spark-submit starts.

spark-submit --master … --py-files reelhouse.whl reelhouse.py run --layers silver
"""

import sys

try:
    from pipelines.cli.main import main
except ModuleNotFoundError as error:
    fix = "reelhouse.whl goes to --py-files, its dependencies into the driver's Python: see docs/cluster.md"
    sys.exit(f"reelhouse: the driver's Python has no {error.name}; {fix}")

sys.exit(main())
