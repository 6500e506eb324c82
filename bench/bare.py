"""A bare FastAPI application with one route, from the same uvicorn: ``python -m bench.bare PORT FILE``."""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI


def create_bare(content: Any) -> FastAPI:
    """Create an application that answers with some JSON, and does nothing else."""
    app = FastAPI()

    @app.get("/")
    async def read() -> Any:
        return content

    return app


if __name__ == "__main__":
    bare = create_bare(json.loads(Path(sys.argv[2]).read_bytes()))
    uvicorn.run(
        bare, host="127.0.0.1", port=int(sys.argv[1]), loop="asyncio", http="h11", access_log=False, log_level="warning"
    )
